"""The project's protected part: it prepares the questions, runs the edited file, and judges what it answers."""
