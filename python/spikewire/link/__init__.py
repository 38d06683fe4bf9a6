"""What goes over the wire to an exoskeleton controller, and how: messages, framing, transports."""
