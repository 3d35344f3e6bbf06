"""How channels are chosen and the rest is repaired: importance, least squares, the sliced module."""
