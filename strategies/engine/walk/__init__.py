"""The objects of a built engine: found, numbered, compared with how they were built, hashed."""
