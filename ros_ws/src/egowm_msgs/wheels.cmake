# Lets the stock CMakeLists.txt build against ROS 2 wheels installed in a virtual environment.
# Included right after project() by -DCMAKE_PROJECT_INCLUDE=.../wheels.cmake. Not for a ROS installation: there colcon
# needs nothing of this.

if(CMAKE_VERSION VERSION_LESS 3.21)
  message(FATAL_ERROR "wheels.cmake needs CMake 3.21 or newer, found ${CMAKE_VERSION}; pip install cmake")
endif()

# 1. The interpreter: the one given, else the virtual environment that runs the build (the wheels put its lib directory
#    on LD_LIBRARY_PATH), else whatever FindPython3 finds first (an activated environment, then PATH).
if(NOT Python3_EXECUTABLE)
  string(REPLACE ":" ";" _egowm_library_dirs "$ENV{LD_LIBRARY_PATH}")
  foreach(_egowm_dir IN LISTS _egowm_library_dirs)
    get_filename_component(_egowm_venv "${_egowm_dir}" DIRECTORY)
    if(EXISTS "${_egowm_venv}/pyvenv.cfg" AND EXISTS "${_egowm_venv}/bin/python")
      set(Python3_EXECUTABLE "${_egowm_venv}/bin/python" CACHE FILEPATH "interpreter that has the ROS 2 wheels")
      break()
    endif()
  endforeach()
endif()
set(Python3_FIND_VIRTUALENV FIRST)
find_package(Python3 REQUIRED COMPONENTS Interpreter)

# 2. The prefix that the wheels are installed in; it may be pip's temporary build environment.
execute_process(
  COMMAND "${Python3_EXECUTABLE}" -c
    "import pathlib, rosidl_cmake; print(pathlib.Path(rosidl_cmake.__file__).resolve().parents[4].as_posix())"
  OUTPUT_VARIABLE _egowm_prefix
  OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE _egowm_result
  ERROR_QUIET
)
if(NOT _egowm_result EQUAL 0)
  message(FATAL_ERROR
    "${Python3_EXECUTABLE} has no ROS 2 wheels (rosidl_cmake does not import). Name the right interpreter with "
    "-DPython3_EXECUTABLE=VENV/bin/python and install build-system.requires of this package's pyproject.toml there; "
    "on a ROS installation leave wheels.cmake out.")
endif()
message(STATUS "ROS 2 wheels: ${_egowm_prefix} (${Python3_EXECUTABLE})")
list(PREPEND CMAKE_PREFIX_PATH "${_egowm_prefix}")
set(ENV{AMENT_PREFIX_PATH} "${_egowm_prefix}")

# 3. The wheels' exported Python targets name include directories of the image that they were built in. This package's
#    own targets bring the right ones, so drop those that are not here.
function(_egowm_drop_missing_includes)
  get_property(_targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(_target IN LISTS _targets)
    if(NOT _target MATCHES "__rosidl_generator_py$")
      continue()
    endif()
    get_target_property(_dirs ${_target} INTERFACE_INCLUDE_DIRECTORIES)
    set(_present "")
    foreach(_dir IN LISTS _dirs)
      if(EXISTS "${_dir}")
        list(APPEND _present "${_dir}")
      endif()
    endforeach()
    set_target_properties(${_target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_present}")
  endforeach()
endfunction()
cmake_language(DEFER CALL _egowm_drop_missing_includes)
