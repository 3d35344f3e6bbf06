"""The door between PyTorch and ONNX: fold, export, parity, and trained weights back into the graph."""
