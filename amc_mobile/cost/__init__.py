"""What it costs: MACs, parameters and bytes by formula; latency from a measured table."""
