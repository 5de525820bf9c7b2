"""Networks: recipes, training samples, networks, training and export to ONNX."""
