"""How it recovers: training and fine-tuning."""
