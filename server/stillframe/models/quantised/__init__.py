"""Quantised weights: a decoder's layers in eight or four bits a number."""
