"""Committed results: rows of finished runs, and the documents' tables and pictures that are made of them."""
