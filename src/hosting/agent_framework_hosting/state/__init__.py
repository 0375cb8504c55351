"""What a conversation needs between two turns, and the protocol that keeps it."""
