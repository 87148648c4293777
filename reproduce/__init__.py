"""The stability table of Zhang (2019) for generated pictures, on real data: `make reproduce`."""
