"""What can be pruned: an ONNX graph becomes layers and channel groups; a policy becomes a sliced ONNX graph."""
