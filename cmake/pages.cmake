# Makes the manual pages and the shells' completions by asking the program for them.
# cmake -DPROGRAM=... -DEMULATOR=... -DFOLDER=... -P pages.cmake
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER})

function(say file)
  execute_process(COMMAND ${EMULATOR} ${PROGRAM} ${ARGN} OUTPUT_FILE ${FOLDER}/${file} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} ${ARGN}: ${result}")
  endif()
endfunction()

foreach(shell bash zsh fish)
  say(longscan.${shell} completion ${shell})
endforeach()
say(longscan.1 man)
file(STRINGS ${FOLDER}/longscan.1 lines REGEX "^\\.BR longscan.*-[a-z]+ ") # it names all verbs
foreach(line ${lines})
  string(REGEX REPLACE ".*-([a-z]+) .*" "\\1" verb "${line}")
  say(longscan-${verb}.1 man ${verb})
endforeach()
