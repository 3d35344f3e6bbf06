"""AMC (He et al., ECCV 2018) as an on-device, latency-aware compression toolkit. Start with types.py."""
