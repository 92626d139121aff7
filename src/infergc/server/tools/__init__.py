"""Calls of functions in chats: what requests say of them, and how answers tell them."""
