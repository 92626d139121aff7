"""The engine: the pipelined loop, its ports (Executor, Sink), finish rules and assembly."""
