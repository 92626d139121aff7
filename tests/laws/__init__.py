"""The heap's laws under random operations, with a model of storage and planted bugs."""
