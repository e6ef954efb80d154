"""The service on one's own machine, with a MongoDB of its own. Nothing here is deployed."""
