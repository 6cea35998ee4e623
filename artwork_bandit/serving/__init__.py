"""Choosing and logging: from a question to a durable row and an answer; from events to SQL."""
