"""Usage by the day: the hours of days that are over, summed once, so that a year is read from days."""
