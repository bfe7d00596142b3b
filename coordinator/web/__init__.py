"""The server-rendered pages for people, with live updates from the event feed and no request to another host."""
