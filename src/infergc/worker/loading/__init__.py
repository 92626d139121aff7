"""From a model directory to weights: its files, its dtype, the weights as the kernels want them."""
