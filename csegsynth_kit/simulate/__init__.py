"""Simulated participants: answers, volumes with known causes, and maps with those volumes."""
