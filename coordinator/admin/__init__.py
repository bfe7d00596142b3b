"""What a maintainer does to a whole database: check it, pack it more tightly, back it up and restore it."""
