"""What to compress: networks by name, data sets with disjoint splits, evaluation."""
