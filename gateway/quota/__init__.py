"""How much may still be used, decided atomically before anything is sent."""
