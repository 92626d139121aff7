"""Parts of tools/make_induction_model.py: a Llama whose weights are written down, which answers by induction."""
