"""Writes the vectors: everything from fixed seeds, with the second implementation's encoders."""
