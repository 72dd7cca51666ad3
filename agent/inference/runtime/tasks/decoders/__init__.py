"""Detection heads: how the output tensors of each family of networks become boxes; one module each."""
