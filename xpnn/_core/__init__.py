"""What other packages stand on: nothing here imports anything of xpnn but its errors."""
