"""Decisions about requests: ints and values in, decisions out. No IO, no clock, stdlib only."""
