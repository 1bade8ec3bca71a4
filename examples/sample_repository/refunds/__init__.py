"""Answers customers who want their money back."""
