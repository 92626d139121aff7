"""The engine: the pipelined loop, its ports (Executor, Sink), faults, resuming and assembly."""
