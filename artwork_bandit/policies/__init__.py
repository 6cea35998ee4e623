"""The mathematics of choosing: encoding, scoring, exploring, drawing. No I/O."""
