"""Onboarding: one click makes a key, one paste makes a call, and the page turns green when it arrives."""
