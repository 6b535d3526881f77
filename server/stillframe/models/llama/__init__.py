"""The Llama decoder: layers, passes with reused KV, speculative decoding."""
