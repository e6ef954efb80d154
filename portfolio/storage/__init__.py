"""MongoDB: what is asked of it, and how."""
