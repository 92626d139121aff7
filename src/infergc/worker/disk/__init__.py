"""The disk tier: pages of KV in segment files that outlive the server, moved by a thread of their own. No torch."""
