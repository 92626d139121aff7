"""What looks for faults: guards around KV under ``--heap-debug``, and tensors that live too long."""
