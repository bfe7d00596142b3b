"""The project's protected part: it prepares the text, and runs both halves of the codec where neither can cheat."""
