"""Values to bytes and back, exactly, for bytes that nobody vouches for."""
