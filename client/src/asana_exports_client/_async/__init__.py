"""The face of the async client, from which that of the sync one is made."""
