"""How time is learnt: carriers are measured, a latency table is fitted and validated."""
