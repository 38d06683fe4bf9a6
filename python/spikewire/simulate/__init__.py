"""EMG with known discharge times: muscle -> action potentials -> spikes -> electrodes."""
