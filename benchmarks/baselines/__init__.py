"""What the service is compared with: as little as answers the same requests the same way.

Neither checks names, guards the database, measures, logs, or sends a header that it need not: what
they leave out is what the comparison puts a price on. Both store as safely as the service does
(majority, journalled), read the same indexes and count as it counts.
"""
