"""From what a user passes to the tensors a flow starts with: a module per modality, `decode` then `transform`."""
