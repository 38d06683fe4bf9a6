"""Opt-in programs between a decoder's link and one machine: they alone turn drive into torque."""
