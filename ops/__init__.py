"""Run: service units, doctor, health. Nothing here decides or trades."""
