"""Where it runs: the Device protocol, and this machine as a device."""
