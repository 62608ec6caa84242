// What runtime.cpp knows of the devices, for driver.cpp.
#pragma once
#include <cstddef>

int current_device();
