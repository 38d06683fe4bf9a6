"""High-density surface EMG in, motor-unit spikes on a wire out, in real time."""

__version__ = "0.1.0"
