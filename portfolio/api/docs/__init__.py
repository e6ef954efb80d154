"""Pages for people: the API to read and to try, and the state of the service."""
