"""The protected part of a project that scores itself: runs its script, and reads the metric that the script prints."""
