"""Views across a whole project: records, lines of descent, comparisons of commits, hardware classes."""
