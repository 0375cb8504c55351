"""Runs a target for one turn: an agent, a workflow, or a workflow that acts as an agent."""
